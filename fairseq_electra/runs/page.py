"""A page in one file: no script, nothing from elsewhere, light or dark as the reader's system is.

In: its title, its own styles, and the source of its body. Out: the page's source.
"""

import html

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
{style}
</style>
</head>
<body>
{body}
</body>
</html>
"""
STYLE = """
:root {
  color-scheme: light dark;
  --page: #fdfdfc; --ink: #1c1d21; --faint: #63656e; --line: #d9dade; --box: #eff0f2;
}
@media (prefers-color-scheme: dark) {
  :root { --page: #17181b; --ink: #e4e5e8; --faint: #989ba5; --line: #393b42; --box: #26282d; }
}
body {
  margin: 2rem auto; max-width: 62rem; padding: 0 1.25rem;
  background: var(--page); color: var(--ink); font: 1rem/1.45 system-ui, sans-serif;
}
h1 { font-size: 1.5rem; margin: 0; }
h2 {
  font-size: 1.05rem; margin: 2rem 0 .75rem; padding-top: 1rem; border-top: 1px solid var(--line);
}
.note { color: var(--faint); font-size: .9rem; margin: .25rem 0; overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; font-size: .9rem; }
dt { font-weight: 600; }
dd { margin: 0; }
[title] { cursor: help; }
""".strip()


def make_page(title: str, style: str, body: str) -> str:
    """The page; `title` is text, the others are source."""
    return PAGE.format(title=html.escape(title), style=f"{STYLE}\n{style}", body=body)
