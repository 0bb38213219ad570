"""Mails: the outbox, their texts, their delivery by Amazon SES, and what limits them.

Requests store a mail and go on (`outbox`); the delivery renders and sends it in another invocation. Owns the format of
a message and the codes and links in it. It must not know why a mail is sent: the callers name a template.
"""
