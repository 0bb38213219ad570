"""JSON without spaces, for what is sent."""

import json

# As a function: with `separators`, `json.dumps` would create an encoder for each call.
to_json = json.JSONEncoder(separators=(",", ":")).encode
