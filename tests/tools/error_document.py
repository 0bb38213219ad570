"""Generate docs/errors.md from the table of errors: `python -m tests.tools.error_document`."""

from pathlib import Path

from chalicelib.pages.explanations import EXPLANATIONS

FILE = Path(__file__).parents[2] / "docs" / "errors.md"
_HEAD = """# Errors and what to do

Each error has a short code. The error page or the response shows it, and the log has it as `code`, together with
`request_id`, which the page shows too. The server shows this list at `/errors`, and error pages link to it.

Applications get the registered OAuth and OpenID Connect codes as `error`. When the server cannot redirect, the user
sees a page with a more specific code, and the log has the registered code as `outcome`.
"""


def text() -> str:
    """Return the document."""
    parts = [_HEAD]
    for code, error in sorted(EXPLANATIONS.items()):
        user = f"- User: {error.for_user}\n" if error.for_user else ""
        parts.append(
            f"## `{code}`\n\n{error.title}. {error.meaning}\n\n{user}- Developer or operator: {error.for_developer}\n"
        )
    return "\n".join(parts)


if __name__ == "__main__":
    FILE.write_text(text(), "utf-8")
