"""Go's text/template, with sprig's functions: what KWOK stages, Helm-like inputs and many tools' manifests are in.

`Template(text, functions)` parses once; `render(data, functions)` runs it. Data are JSON values (dict, list, str,
int, float, bool, None). Semantics follow Go's text/template: a missing key is no value (printed `<no value>`),
`and`/`or` stop early, maps are ranged in key order. Errors are TemplateError with the line.
"""

from atoll.objects.gotemplate.errors import TemplateError
from atoll.objects.gotemplate.template import Template
from atoll.objects.gotemplate.values import NO_VALUE, Number, with_numbers

__all__ = ["NO_VALUE", "Number", "Template", "TemplateError", "with_numbers"]
