"""`signet user let-in` and `signet user unlock`: support for a user whom the throttle keeps from signing in."""

import click

from chalicelib import events
from chalicelib.authentication import let_in, second_factor, throttle
from infra.operator.commands import CommandError, example, json_option, record_event
from infra.operator.doctor import inside
from infra.operator.keys import open_ring
from infra.operator.terminal import print_json, time_text, visible
from infra.operator.users import find_user


@click.command("let-in", epilog=example("user let-in alice"))
@click.argument("username")
@click.option("--url", help="The address of the server. By default the stage's own.")
@json_option
@click.pass_obj
def let_in_user(stage: str, /, username: str, url: str | None, as_json: bool) -> None:
    """Print a link with which a user can try their password in a new browser. USERNAME may be a `sub`.

    The link makes one browser known: only its own failures keep it from signing in. It works once, for an hour. It
    gives no access: who has it needs the password, and has five tries. Send it to the user only.
    """
    if url and not url.startswith(("https://", "http://")):
        raise click.UsageError(f"{url} is not a URL. It must start with https://.")
    with open_ring(stage) as (store, keys):
        user = find_user(store, username)
        if user.disabled_at is not None:
            raise CommandError(f"{visible(user.username)} is disabled, and cannot sign in in any browser.")
        issuer = url or inside.public_url(store)
        if not issuer:
            raise CommandError("The address of the server is not known. Give it with --url.")
        link, expires_at = let_in.create_link(store, keys, issuer.rstrip("/"), user)
        record_event(store, events.USER_CHANGED, sub=user.sub, detail="link that makes a browser known")
    if as_json:
        print_json({"link": link, "expires_at": expires_at})
        return
    click.echo(link)
    click.echo(f"\nIt makes one browser known for {visible(user.username)}, until {time_text(expires_at)}.")
    click.echo("It gives no access, but five tries of the password: send it to the user only.")


@click.command("unlock", epilog=example("user unlock alice"))
@click.argument("username")
@json_option
@click.pass_obj
def unlock_user(stage: str, /, username: str, as_json: bool) -> None:
    """Forget the failed sign-ins and wrong codes of a user, so that the next try is possible at once.

    USERNAME may be a `sub`. The limit for an address, over all accounts, stays: who has reached it waits up to an hour.
    A browser that has become unknown stays unknown until the user signs in.
    """
    with open_ring(stage) as (store, keys):
        user = find_user(store, username)
        throttle.unlock(store, keys, user.sub)
        second_factor.unlock(store, keys, user)
        record_event(store, events.USER_CHANGED, sub=user.sub, detail="unlocked")
    if as_json:
        print_json({"sub": user.sub, "username": user.username})
        return
    click.echo(f"Forgot the failed sign-ins of {visible(user.username)} today, from all browsers and networks.")
    click.echo("The limit for an address, over all accounts, was not reset: it ends within an hour.")
