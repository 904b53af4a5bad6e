"""Texts that a YAML parser, a template engine or a terminal could take for something else."""

from __future__ import annotations

LOOK_ALIKES = (
    *("", "~", "null", "Null", "NULL", "true", "True", "TRUE", "false", "False", "FALSE"),
    *("y", "Y", "yes", "Yes", "YES", "n", "N", "no", "No", "NO", "on", "On", "ON", "off", "Off", "OFF"),
    *("0", "-0", "+1", "12", "1_000", "012", "0o17", "0O17", "0x1F", "0X1F", "0b11", "0B11", "-0b1", "0_x1F", "+_1"),
    *("1.0", "1.", ".5", "-.5", "+.5e3", "1e3", "1E3", "1e_3", "357e009", "1.5e-7", "123456789012345678901234567890"),
    *(".inf", "-.Inf", "+.INF", ".nan", ".NaN", "12:30", "12:30:45", "-190:20:30.15"),
    *("2001-01-01", "2001-1-1", "2001-12-14t21:59:43.10-05:00", "2001-12-14 21:59:43.10", "<<", "="),
)
"""What some YAML parser reads as null, a boolean, a number, a time, or a merge or value key if it stands unquoted."""

STRUCTURE = (
    *("a: b", "- a", "a\n- b", "x: 1\ny: 2", "}", "{a: 1}", "[1]", "]", ",", ": ", ":", "a:", "#", " # no comment"),
    *("&anchor", "*alias", "!!int 3", "!tag", "%YAML 1.2", "@at", "`tick`", "|", ">", "?", "? a", "-", "--- ", "---"),
    *(
        "...",
        "\n---\nkind: Secret\n",
        "\n...\n",
        "a\n\nb\n\n",
        "\nleading",
        "trailing\n",
        "trailing\n\n\n",
        " lead",
        "tail ",
    ),
    *("\ttab", "a\tb\n", "\r", "a\r\nb", '"', "'", '"\'"', "\\", '\\"', "\\n", '", "b": "', "': 'x", "a #b", "a# b"),
    *("{{ x }}", "{% if x %}", "{# x #}", "{{", "}}", "${HOME}", "$(HOME)", "%(x)s", "<script>&amp;</script>"),
    *("Zq0q0Z", "Zq0q3Z", "Zq0q", "aZq0q1Zb", "{{ part('env') }}"),
)
"""What would be structure, quoting, a template or a placeholder if it were not text."""

CHARACTERS = (
    *(
        "\0",
        "\a",
        "\b",
        "\x1b[31mred\x1b[0m",
        "\x7f",
        "\x80",
        "\x85",
        "a\x85b",
        "\xa0",
        "\xad",
        "\u200b",
        "\u2028",
        "a\u2029b",
    ),
    *(
        "\ufeff",
        "\ufeffa",
        "a\ufeffb",
        "\ufffe",
        "\uffff",
        "\U0001f600",
        "e\u0301",
        "\u202eevil",
        "名前",
        "ß",
        "\u3000",
        "\U000e0001",
    ),
    *("\U0010ffff", "\U0001fffe", "line\u2028line\nline", "\v\f"),
)
"""Characters that YAML libraries escape, refuse or take for line ends."""

LONG = ("x" * 10_000, "two words " * 1_000, "a: b\n" * 2_000, " ".join(["---"] * 500), "é" * 5_000)

HOSTILE = (*LOOK_ALIKES, *STRUCTURE, *CHARACTERS, *LONG)

ORDINARY = (
    *("abc", "chronik-stream", "500m", "10Gi", "1536Mi", "20%", "1.2.3", "v1.10", "apps/v1", "10.0.0.0/8", "0.0.0.0"),
    *(
        "registry.example.com:5000/chronik/ingest:1.4.2",
        "nginx@sha256:0f1e",
        "/var/lib/chronik",
        "a_b",
        "a.b/c-d",
        "-x",
    ),
    *("http://otel-collector.observability:4317", "app.kubernetes.io/name", "kafka_consumer_lag", "yesterday", "nope"),
    *("e10", "E5", "-e1", "0z", "1st", "0xg", "0b2", "12:75", "8080:80", "fe80", "1e3x", "2001-01", "infinity", "nan"),
    *(
        "two words",
        "it's",
        "a-b c_d",
        "<a>",
        "(x)",
        "x=y",
        "a:b",
        "a#b",
        "~/x",
        "Null and void",
        "on-off",
        "..",
        "名前",
    ),
)
"""What nobody could misread, and so stands unquoted."""
