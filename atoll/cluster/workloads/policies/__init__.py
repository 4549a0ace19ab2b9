"""The status of ValidatingAdmissionPolicies: what the type checker says of their expressions."""
