"""What an operator needs: the schema, the embedded database, the operator's command. Never in the zip."""
