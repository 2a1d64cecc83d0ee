"""Printers of the engine's events: terminal, JSON, HTML, e-mail.

They decide nothing, and nothing but the command line imports them:

    mail = mail_settings(to, sender, smtp)           # before the run: raises UsageError
    with make_printer(json=False, quiet=False, verbose=0) as printer:
        report = run(..., listener=printer)
        printer.delivered(save_report(report, folder))
        if mail is not None:
            printer.delivered(send_report(report, mail))

Import this inside the command that prints: rich and the mail libraries take a while.
"""

from __future__ import annotations

from bulkup.report.github import GitHub, github
from bulkup.report.mail import send_report
from bulkup.report.mail_options import MailSettings, mail_settings
from bulkup.report.printer import Delivery, Printer, make_printer
from bulkup.report.save import save_report
from bulkup.report.summary_model import Story, tell
from bulkup.report.summary_text import summary_text

__all__ = [
    "Delivery",
    "GitHub",
    "MailSettings",
    "Printer",
    "Story",
    "github",
    "mail_settings",
    "make_printer",
    "save_report",
    "send_report",
    "summary_text",
    "tell",
]
