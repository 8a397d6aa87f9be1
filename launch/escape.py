"""Text that users wrote, as it may stand in another language: a line, markdown, LaTeX, CSV."""

from __future__ import annotations

import re
import unicodedata

from vocl.errors import printable

ASCII = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "`": r"\textasciigrave{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"{\char34}",  # babel makes it a command
    "[": "{[}",  # at the start of a row it would be an argument of the end of the row above
    "*": "{*}",
}
GREEK = "αβγδεζηθικλμνξπρςστυφχψωΓΔΘΛΞΠΣΥΦΨΩ"
GREEK_NAMES = (
    "alpha beta gamma delta varepsilon zeta eta theta iota kappa lambda mu nu xi pi rho varsigma sigma tau "
    "upsilon varphi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega"
)
LETTERS = dict(zip("οΑΒΕΖΗΙΚΜΝΟΡΤΧ", "oABEZHIKMNOPTX", strict=True))  # Greek ones that TeX has no name for
SIGNS = {
    **dict(zip(GREEK, GREEK_NAMES.split(), strict=True)),
    "µ": "mu",
    "±": "pm",
    "×": "times",
    "÷": "div",
    "·": "cdot",
    "∞": "infty",
    "≤": "leq",
    "≥": "geq",
    "≠": "neq",
    "≈": "approx",
    "≡": "equiv",
    "∼": "sim",
    "∝": "propto",
    "∈": "in",
    "∉": "notin",
    "∅": "emptyset",
    "∪": "cup",
    "∩": "cap",
    "⊂": "subset",
    "⊆": "subseteq",
    "∑": "sum",
    "∏": "prod",
    "∂": "partial",
    "∇": "nabla",
    "√": "surd",
    "ℓ": "ell",
    "∀": "forall",
    "∃": "exists",
    "¬": "neg",
    "∧": "wedge",
    "∨": "vee",
    "⊕": "oplus",
    "⊗": "otimes",
    "←": "leftarrow",
    "→": "rightarrow",
    "↑": "uparrow",
    "↓": "downarrow",
    "↔": "leftrightarrow",
    "⇐": "Leftarrow",
    "⇒": "Rightarrow",
    "⇔": "Leftrightarrow",
    "↦": "mapsto",
    "†": "dagger",
    "‡": "ddagger",
    "°": "circ",
    "′": "prime",
    "★": "star",
    "☆": "star",
    "•": "bullet",
    "♯": "sharp",
    "♭": "flat",
}
RAISED = "†‡°′"
WORDS = {
    "−": "$-$",
    "–": "--",
    "—": "---",
    "…": r"\ldots{}",
    "‘": "`",
    "’": "'",
    "“": "``",
    "”": "''",
    "©": r"\copyright{}",
    "§": r"\S{}",
    "¶": r"\P{}",
    "✓": r"$\surd$",
    "✗": r"$\times$",
    "¡": "!`",
    "¿": "?`",
}
PLAIN = frozenset("ßøØæÆœŒłŁı")  # beside letters with these accents, what pdflatex's own fonts have
ACCENTS = frozenset(
    "\N{COMBINING GRAVE ACCENT}\N{COMBINING ACUTE ACCENT}\N{COMBINING CIRCUMFLEX ACCENT}\N{COMBINING TILDE}"
    "\N{COMBINING DIAERESIS}\N{COMBINING CEDILLA}\N{COMBINING CARON}\N{COMBINING MACRON}"
    "\N{COMBINING RING ABOVE}\N{COMBINING BREVE}\N{COMBINING DOUBLE ACUTE ACCENT}"
)
FOREIGN = r"\vocltext"  # of two arguments; LaTeX
FORMULA = tuple("=+-@")  # what a spreadsheet takes a cell for that begins so
MARKDOWN = re.compile(r"[\\|*`<~]|\](?=\()|&(?=#?\w+;)|(?<![^\W_])_|_(?![^\W_])")


def one_line(text: str) -> str:
    """`text` on one line, as `printable`, with single spaces."""
    return " ".join(printable(text).split())


def markdown(text: str) -> str:
    """`text` in a line or a table of markdown."""
    return MARKDOWN.sub(r"\\\g<0>", one_line(text))


def csv(text: str) -> str:
    """`text` as a cell that no spreadsheet computes: behind a ' where it begins like a formula."""
    text = one_line(text)
    return f"'{text}" if text.startswith(FORMULA) else text


def latex(text: str) -> str:
    r"""`text` in a cell of a LaTeX table. It compiles with every engine and no package. What its fonts may
    lack (CJK, say) is FOREIGN{as it is}{U+4E2D}, for the document to choose."""
    out, foreign, before = [], "", ""
    for character in [*unicodedata.normalize("NFC", one_line(text)), ""]:
        spelt = _spelt(character)
        if spelt is None:
            foreign += character
            continue
        if foreign:
            codes = " ".join(f"U+{ord(each):04X}" for each in foreign)
            out.append(f"{FOREIGN}{{{foreign}}}{{{codes}}}")
            foreign = ""
        elif character == before and character in tuple("-',"):  # two would become another sign
            out.append("{}")
        out.append(spelt)
        before = character
    return "".join(out)


def _spelt(character: str) -> str | None:
    """One character in LaTeX; None for one that only newer engines know."""
    if character in SIGNS:
        return rf"${'^' if character in RAISED else ''}\{SIGNS[character]}$"
    found = ASCII.get(character) or WORDS.get(character) or LETTERS.get(character)
    return found or (character if character.isascii() or _has_accent(character) else None)


def _has_accent(character: str) -> bool:
    base, *marks = list(unicodedata.normalize("NFD", character))
    accented = "\u00c0" <= character <= "\u017f" and base.isascii() and ACCENTS.issuperset(marks)
    return character in PLAIN or (accented and len(marks) == 1)
