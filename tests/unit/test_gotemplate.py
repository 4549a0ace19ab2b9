"""Go's text/template and sprig, by example. Expected texts are what Go prints (compared with Go 1.25, sprig 3.3)."""

from __future__ import annotations

import pytest

from atoll.base.chance import Chance
from atoll.objects.gotemplate import Template, TemplateError, with_numbers
from atoll.objects.gotemplate.sprig_more import functions

SPRIG = functions(Chance(1), lambda: 1136214245.0)
DATA = {
    "name": "web",
    "list": ["a", "b"],
    "map": {"z": 1, "a": {"k": "v"}},
    "null": None,
    "empty": "",
    "n": 3,
    "big": 1000000.0,
    "yes": True,
}


def render(text, data=DATA):
    return Template(text, SPRIG).render(data)


CASES = [
    ('{{ mulf 2 "1.5" 2 }} {{ divf 9 2 3 }} {{ add1f "1.5" }}', "6 1.5 2.5"),
    ("plain", "plain"),
    ("{{ .name }}", "web"),
    ("a {{- .name -}} b", "awebb"),
    ("{{/* no */}}x{{- /* no */ -}} y", "xy"),
    ("{{ .missing }}|{{ .missing.deeper }}|{{ .null }}", "<no value>|<no value>|<no value>"),
    ("{{ print .missing }}", "<nil>"),
    ("{{ .map }} {{ .list }} {{ .big }} {{ .yes }}", "map[a:map[k:v] z:1] [a b] 1e+06 true"),
    ("{{ if .empty }}a{{ else if .n }}b{{ else }}c{{ end }}", "b"),
    ("{{ with .map.a }}{{ .k }}{{ else }}no{{ end }}", "v"),
    ("{{ with .none }}x{{ else with .name }}{{ . }}{{ end }}", "web"),
    ("{{ range .list }}{{ . }},{{ end }}", "a,b,"),
    ("{{ range $i, $x := .list }}{{ $i }}{{ $x }}{{ end }}", "0a1b"),
    ("{{ range $k, $v := .map }}{{ $k }} {{ end }}", "a z "),
    ("{{ range .none }}x{{ else }}none{{ end }}", "none"),
    ("{{ range 3 }}{{ . }}{{ end }}", "012"),
    ("{{ range $i, $_ := .list }}{{ if $i }}{{ break }}{{ end }}{{ $i }}{{ end }}", "0"),
    ("{{ range .list }}{{ if eq . `a` }}{{ continue }}{{ end }}{{ . }}{{ end }}", "b"),
    ("{{ $x := 1 }}{{ if true }}{{ $x = 2 }}{{ $x := 3 }}{{ end }}{{ $x }}", "2"),
    ("{{ range .list }}{{ $.name }}{{ end }}", "webweb"),
    ("{{ index .list 1 }}{{ index .map `a` `k` }}{{ index .map `none` }}", "bv<no value>"),
    ("{{ (index .map `a`).k }}{{ .map.a.k }}", "vv"),
    ("{{ slice .list 1 }}{{ len .list }}{{ not .yes }}", "[b]2false"),
    ("{{ and 1 0 2 }}{{ or 0 `` `x` }}{{ or .none .n }}", "0x3"),
    ("{{ or .name (fail `never`) }}", "web"),
    ("{{ eq .n 1 2 3 }} {{ ne .name `x` }} {{ lt 1 2 }} {{ ge 2 2 }} {{ eq .none `a` }}", "true true true true false"),
    ("{{ .name | printf `%s-%d-%q` `a` 5 }}", "a-5-\"web\""),
    ("{{ printf `%5d|%-4s|%05.2f|%x|%v|%T|%#v` 42 `ab` 3.14159 255 nil .n .list }}",
     "   42|ab  |03.14|ff|<nil>|int|[]interface {}{\"a\", \"b\"}"),
    ("{{ printf `%d` `x` }} {{ printf `%s` }} {{ printf `a` 1 }}", "%!d(string=x) %!s(MISSING) a%!(EXTRA int=1)"),
    ('{{ define "t" }}<{{ . }}>{{ end }}{{ template "t" .name }}{{ block "u" .n }}[{{ . }}]{{ end }}', "<web>[3]"),
    ("{{ 0x10 }} {{ 1_000 }} {{ 1.5 }} {{ 'a' }} {{ true }} {{ `r\\n` }} {{ \"\\t|\\u00e9\" }}", "16 1000 1.5 97 true r\\n \t|é"),  # noqa: E501
    ("{{ html `<a>` }} {{ urlquery `a b` }}", "&lt;a&gt; a+b"),
    # sprig
    ("{{ .empty | default `d` }} {{ .name | upper | trunc 2 }} {{ `a-b` | replace `-` `+` }}", "d WE a+b"),
    ("{{ list 1 2 3 | join `,` }} {{ has `a` .list }} {{ first .list }} {{ rest .list }}", "1,2,3 true a [b]"),
    ("{{ $d := dict `a` 1 }}{{ $_ := set $d `b` 2 }}{{ keys $d | sortAlpha }} {{ get $d `b` }} {{ hasKey $d `c` }}", "[a b] 2 false"),  # noqa: E501
    ("{{ toJson .map }} {{ `{\"a\":[1]}` | fromJson }}", '{"a":{"k":"v"},"z":1} map[a:[1]]'),
    ("{{ `a\nb` | indent 2 }}|{{ `x` | nindent 1 }}", "  a\n  b|\n x"),
    ("{{ quote .name 1 }} {{ squote `x` }} {{ b64enc `hi` }} {{ b64dec `aGk=` }}", "\"web\" \"1\" 'x' aGk= hi"),
    ("{{ add 1 2 3 }} {{ sub 5 2 }} {{ mul 2 3 }} {{ div 7 2 }} {{ mod 7 2 }} {{ max 1 9 3 }} {{ add1 `4` }}", "6 3 6 3 1 9 5"),  # noqa: E501
    ("{{ ternary `y` `n` .yes }} {{ coalesce .empty `c` }} {{ empty .list }} {{ kindOf .map }}", "y c false map"),
    ("{{ regexMatch `^w` .name }} {{ regexReplaceAll `(w)e` .name `${1}E` }}", "true wEb"),
    ("{{ regexReplaceAll `(?P<x>w)e` .name `$x-$$-${9}` }}", "w-$-b"),
    ("{{ regexReplaceAllLiteral `e` .name `$1` }} {{ regexFindAll `.` .name 2 }}", "w$1b [w e]"),
    ("{{ regexSplit `(,)` `a,b,c` -1 }} {{ regexSplit `,` `a,b,c` 2 }}", "[a b c] [a b,c]"),
    ("{{ regexSplit `` `abc` -1 }}", "[a b c]"),
    ("{{ regexMatch `^(a+)+$` (printf `%s!` (repeat 60 `a`)) }}", "false"),
    ("{{ until 3 }} {{ seq 2 4 }} {{ untilStep 0 6 2 }}", "[0 1 2] 2 3 4 [0 2 4]"),
    ("{{ snakecase `FirstName` }} {{ kebabcase `FirstName` }} {{ camelcase `first_name` }} {{ title `a b` }}", "first_name first-name FirstName A B"),  # noqa: E501
    ("{{ semverCompare `^1.2.0` `1.3.1` }} {{ semverCompare `>=2` `1.9.0` }} {{ sha256sum `a` | trunc 8 }}", "true false ca978112"),  # noqa: E501
    ("{{ dig `a` `k` `x` .map }} {{ dig `a` `q` `x` .map }} {{ pick .map `z` }} {{ omit .map `z` }}", "v x map[z:1] map[a:map[k:v]]"),  # noqa: E501
    ("{{ merge (dict `a` 1) (dict `a` 2 `b` 3) }} {{ uniq (list 1 1 2) }} {{ now | date `2006-01-02T15:04:05Z07:00` }}",
     "map[a:1 b:3] [1 2] 2006-01-02T15:04:05Z"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), CASES, ids=[text[:40] for text, _ in CASES])
def test_prints(text, expected):
    assert render(text) == expected


WRONG = [
    ("{{ .name", "unclosed action"),
    ("{{ if .x }}", "unexpected EOF"),
    ("{{ end }}", "unexpected {{end}}"),
    ("{{ nope }}", 'function "nope" not defined'),
    ("{{ $x }}", 'undefined variable "$x"'),
    ("{{ break }}", "outside {{range}}"),
    ("a\n{{ .null.x }}", "line 2: nil pointer evaluating interface {}.x"),
    ("{{ .name.x }}", "can't evaluate field x in type string"),
    ("{{ index .list 7 }}", "index out of range: 7"),
    ("{{ index .none 0 }}", "index of untyped nil"),
    ("{{ lt 1 `a` }}", "incompatible types for comparison"),
    ("{{ eq .n `a` }}", "incompatible types for comparison"),
    ("{{ fail `on purpose` }}", "error calling fail: on purpose"),
    ('{{ template "none" }}', 'template "none" not defined'),
    ('{{ define "t" }}{{ template "t" }}{{ end }}{{ template "t" }}', "exceeded maximum template depth"),
    ("{{ range .name }}{{ end }}", "range can't iterate over web"),
    ("{{ range .yes }}{{ end }}", "range can't iterate over true"),
]


@pytest.mark.parametrize(("text", "message"), WRONG, ids=[text for text, _ in WRONG])
def test_errors_say_what_and_where(text, message):
    with pytest.raises(TemplateError) as caught:
        render(text)
    assert message in str(caught.value)


def test_numbers_kept_as_text():
    data = with_numbers({"n": 0, "f": 1.5, "b": True, "big": 12345678901234567890})
    assert render("{{ .n }} {{ .f }} {{ .big }} {{ if .n }}true{{ end }} {{ add .n 1 }}", data) == (
        "0 1.5 12345678901234567890 true 1"
    )
    assert render("{{ toJson . }}", data) == '{"b":true,"big":12345678901234567890,"f":1.5,"n":0}'
