"""A report as the text of a chat message.

Slack, and chats that accept Slack's format, read `<!channel>` as a mention of everybody and
`<http://...|text>` as a link with any label. Both need angle brackets, so these are escaped
(https://docs.slack.dev/messaging/formatting-message-text), and formatting is turned off.
"""

from __future__ import annotations

from bulkup.report.summary_model import Summary

MAX_TEXT_CHARS = 3000
MAX_FAILURES = 3
PLAIN = {"mrkdwn": False, "unfurl_links": False, "unfurl_media": False}
"""With these, Slack shows `*` and `_` unchanged, and fetches no preview of a link."""


def chat_text(summary: Summary) -> str:
    """Updater and outcome, what that means, the first failures, and what to type next."""
    lines = [summary.subject, *summary.sentences]
    lines += [f"{line.key}: {line.what}" for line in summary.failures[:MAX_FAILURES]]
    left_out = summary.failures_left_out + sum(f.count for f in summary.failures[MAX_FAILURES:])
    lines += [f"and {left_out:,} more"] if left_out > 0 and summary.failures else []
    lines += [f"{summary.next_label}: {summary.next_command}"] if summary.next_command else []
    text = "\n".join(lines)
    if len(text) > MAX_TEXT_CHARS:
        text = text[: MAX_TEXT_CHARS - 1] + "…"
    return escaped(text)


def escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
