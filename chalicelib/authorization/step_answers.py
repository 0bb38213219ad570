"""Which function answers the form of a step that needs nothing but the interaction and the form."""

from collections.abc import Callable, Mapping

from chalicelib.authorization.interaction import Interaction
from chalicelib.authorization.offer_answer import answer_offer
from chalicelib.authorization.second_factor_answer import answer_code, answer_setup
from chalicelib.http.messages import Params, Response
from chalicelib.protocol.next_step import Step

ANSWERS: Mapping[Step, Callable[[Interaction, Params], Response]] = {
    Step.SECOND_FACTOR: answer_code,
    Step.ENROL_SECOND_FACTOR: answer_setup,
    Step.OFFER_PASSKEY: answer_offer,
}
