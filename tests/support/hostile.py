"""Hostile texts that pages must show as plain text."""

MARKUP = "</p></title><script>window.hit=1</script><img src=x onerror=window.hit=1>\"'><svg/onload=window.hit=1>"
TEMPLATE = "{{1337*1337}}${1337*1337}#{1337*1337}{% raw %}<%= 1337*1337 %>"
BIDI = "\u202eevil\u2066\u2067\u200f\u061c"
EMOJI = "\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467\ufe0f\u0301"
