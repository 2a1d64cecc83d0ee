"""Printers of the engine's events: terminal, JSON, HTML, mail, GitHub.

They decide nothing, and only the command line imports them:

    mail = mail_settings(to, sender, smtp)           # before the run: raises UsageError
    summaries = Summaries()
    with make_printer(json=False, quiet=False, verbose=0, summaries=summaries) as printer:
        report = run(..., listener=printer)
        printer.delivered(save_report(summaries.of(report), facts, folder))
        if mail is not None:
            printer.delivered(send_report(summaries.of(report), mail))

Import this inside the command that prints: rich and the mail libraries are slow to import.
"""

from __future__ import annotations

from bulkup.report.github import GitHubPage, github_page
from bulkup.report.mail import send_report
from bulkup.report.mail_options import MailSettings, mail_settings
from bulkup.report.printer import Delivery, Printer, ProgressStyle
from bulkup.report.printers import make_printer
from bulkup.report.save import save_report
from bulkup.report.summary_model import Summaries, Summary, summarize
from bulkup.report.summary_text import summary_text
from bulkup.report.webhook import post_report

__all__ = [
    "Delivery",
    "GitHubPage",
    "MailSettings",
    "Printer",
    "ProgressStyle",
    "Summaries",
    "Summary",
    "github_page",
    "mail_settings",
    "make_printer",
    "post_report",
    "save_report",
    "send_report",
    "summarize",
    "summary_text",
]
