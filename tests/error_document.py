"""docs/errors.md, made from the table of errors: `python -m tests.error_document` writes it."""

from pathlib import Path

from chalicelib.error_codes import EXPLANATIONS

FILE = Path(__file__).parent.parent / "docs" / "errors.md"
_HEAD = """# Errors and what to do

Each error has a short code. It stands on the page that a person sees, or in the answer that an application gets, and in
the log as `code`, beside the number of the request (`request_id`), which the page shows too. The server has this list
at `/errors`, and error pages link there.

An application gets the registered codes of OAuth and OpenID Connect as `error`. Where the answer can be sent to nobody,
the person sees a page with a finer code, and its `error` stands in the log as `outcome`.
"""


def text() -> str:
    """The whole document."""
    parts = [_HEAD]
    for code, error in sorted(EXPLANATIONS.items()):
        person = f"- Who sees it: {error.person}\n" if error.person else ""
        parts.append(
            f"## `{code}`\n\n{error.title}. {error.meaning}\n\n{person}- Developer or operator: {error.developer}\n"
        )
    return "\n".join(parts)


if __name__ == "__main__":
    FILE.write_text(text(), "utf-8")
