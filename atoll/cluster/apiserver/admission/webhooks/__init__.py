"""Admission webhooks: MutatingWebhookConfiguration and ValidatingWebhookConfiguration.

`MutatingWebhooks` and `ValidatingWebhooks` are plugins of the chain. Nothing of a cluster without configurations pays
for them but one look at the store. A configuration is in force as soon as its write is answered.
"""
