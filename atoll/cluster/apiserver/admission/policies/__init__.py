"""Admission policies in CEL: ValidatingAdmissionPolicy and MutatingAdmissionPolicy with their bindings.

`model` compiles what is stored, `params` finds what bindings refer to, `validating` and `mutating` are the plugins,
`status` tells what the type checker thinks of a policy. A cluster without policies pays one comparison a request.
"""
