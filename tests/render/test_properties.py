"""Properties files are what `java.util.Properties` reads, as another reader of the format and Java itself say."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chronik.render.properties import properties

if TYPE_CHECKING:
    from pathlib import Path

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
VALUES = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
HARD = {
    "a b": "  leading and trailing  ",
    "#c": "#!=:",
    "!d": "back\\slash \\u0041 \\",
    "e=f:g": "two\nlines\r\n\ttab\f",
    "ключ": "пароль ✓ 🔑 é",
    "\x00": "\x7f\x85\xa0\u2028",
    " ": " ",
    "empty": "",
}
READER = """
import java.io.*; import java.nio.charset.StandardCharsets; import java.util.*;
class Read { public static void main(String[] names) throws Exception {
  for (String name : names) {
    Properties found = new Properties();
    try (Reader reader = new InputStreamReader(new FileInputStream(name), StandardCharsets.ISO_8859_1)) {
      found.load(reader);
    }
    for (String key : new TreeSet<>(found.stringPropertyNames()))
      System.out.println(hex(key) + " " + hex(found.getProperty(key)));
    System.out.println();
  } }
  static String hex(String text) {
    StringBuilder all = new StringBuilder("x");
    for (char unit : text.toCharArray()) all.append(String.format("%04x", (int) unit));
    return all.toString();
  } }
"""


@example(HARD)
@given(st.dictionaries(NAMES, VALUES, max_size=6))
def test_an_independent_reader_reads_back_what_was_meant(settings):
    """Whatever names and values are, another implementation of the format reads exactly them."""
    javaproperties = pytest.importorskip("javaproperties", reason="javaproperties is not installed")

    assert javaproperties.loads(properties({"": settings})) == settings


@given(st.dictionaries(NAMES, VALUES, max_size=6))
def test_a_file_is_ascii_and_has_a_line_for_each_setting(settings):
    """No value makes a line of its own, and no encoding changes what the file says."""
    text = properties({"": settings})

    assert text.isascii()
    assert len(text.splitlines()) == len(settings)


def test_java_reads_back_what_was_meant(tmp_path: Path):
    """Java's own Properties reads exactly what was written, hard cases and the first 256 characters included."""
    java = shutil.which("java")
    if java is None or shutil.which("javac") is None:
        pytest.skip("there is no JDK")
    cases = [
        HARD,
        *({f"k{chr(each)}": f"{chr(each)}v {chr(each)}" for each in range(at, at + 64)} for at in (0, 64, 128, 192)),
    ]
    (tmp_path / "Read.java").write_text(READER, "utf-8")
    for number, case in enumerate(cases):
        (tmp_path / f"{number}.properties").write_text(properties({"": case}), "latin-1")
    files = [f"{number}.properties" for number in range(len(cases))]
    done = subprocess.run([java, "Read.java", *files], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    found = [dict(line.split(" ") for line in part.splitlines()) for part in done.stdout.split("\n\n")[: len(cases)]]
    assert found == [{units(name): units(value) for name, value in case.items()} for case in cases]


def units(text: str) -> str:
    """Return a text's UTF-16 units in hexadecimal, as the Java program prints them."""
    return "x" + text.encode("utf-16-be").hex()


def test_sections_and_types():
    """Settings begin with their section's key, and booleans and numbers are spelt as Java spells them."""
    made = properties({"": {"a": True}, "x->y": {"b": 3, "c": False}})

    assert made == "a = true\nx->y.b = 3\nx->y.c = false\n"


def test_the_file_of_a_mirror_survives_json():
    """What is written goes through JSON, as a ConfigMap does, without a change."""
    text = properties({"": HARD})

    assert json.loads(json.dumps(text)) == text
