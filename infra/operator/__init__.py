"""The operator's commands: clients, users, grants, keys, scopes, history, settings, export and import, the doctor."""
