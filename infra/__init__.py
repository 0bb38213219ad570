"""What an operator needs: the schema, the embedded database, the command `signet`. Not part of the deployed zip."""
