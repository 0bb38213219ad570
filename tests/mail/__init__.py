"""Mails: outbox, messages, delivery, limits."""
