"""An application in Python: it writes offline, connects, sees its message read, and reads the answer."""

import asyncio
import json
import os
import sys
import urllib.request

import poste_bindings as poste

USER, PEER = os.environ["USER_ID"], os.environ["PEER"]


class Tokens(poste.TokenSource):
    """Tokens from the stack's issuer, which is on this machine."""

    def token(self, fresh):
        url = os.environ["ISSUER"] + "/token"
        body = json.dumps({"user": USER}).encode()
        request = urllib.request.Request(url, body, {"content-type": "application/json"})
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=10) as answer:
            return json.load(answer)["token"]


async def told(events, wanted):
    """The first change that is wanted."""
    while True:
        event = await events.next()
        assert event is not None, "the client was closed"
        found = wanted(event)
        if found is not None:
            return found


async def main():
    config = poste.Config(
        path=os.environ["ACCOUNT"],
        socket_url=os.environ["SOCKET_URL"],
        user=USER,
        device="phone",
        network=False,
    )
    client = await poste.PosteClient.open(config, Tokens())
    events = client.events()

    # Offline is the normal path.
    written = await client.send_to_user(PEER, "from Python")
    assert written.state == poste.State.PENDING and written.seq is None
    conversation = written.conversation
    window = await client.window(conversation, poste.Start.NEWEST(), 10)
    assert [message.body for message in window.messages] == ["from Python"]
    assert not window.older and not window.newer
    found = await client.search("pyth", conversation, None, 10)
    assert [(piece.text, piece.hit) for piece in found.hits[0].snippet] == [("from ", False), ("Python", True)]
    assert (await client.edit(written.id, "from Pythia")).body == "from Pythia"
    changed = await client.edit(written.id, "from Python")
    assert changed.edited_at is None and not changed.deleted and changed.waiting is None, "it was never sent"
    dropped = await client.send_to_user(PEER, "never mind")
    await client.delete(dropped.id)
    [entry] = await client.outbox()
    assert entry.state == poste.OutboxState.QUEUED and entry.attempts == 0
    try:
        await client.retry("no id")
        raise AssertionError("a message's id is a UUID")
    except poste.PosteError.Invalid as refused:
        assert "message's id" in refused.reason

    # The application goes to the background and comes back.
    await client.suspend()
    try:
        await client.outbox()
        raise AssertionError("the file is let go of")
    except poste.PosteError.Suspended:
        pass
    await client.resume()

    await client.open_conversation(conversation)
    await client.set_network(True)
    await client.foreground()

    def read(event):
        if isinstance(event, poste.Event.UPDATED) and event.message.id == written.id:
            return event.message if event.message.state == poste.State.READ else None
        return None

    settled = await told(events, read)
    assert settled.seq == 1 and settled.at is not None

    # What came before and what comes after that is in the list; events only say when to look.
    async def answer(body):
        while True:
            window = await client.window(conversation, poste.Start.AFTER(written.id), 10)
            for message in window.messages:
                if message.body == body:
                    return message
            await events.next()

    first = await answer("to Python")
    assert first.user == PEER and first.state == poste.State.RECEIVED
    await client.mark_read(conversation, first.seq)
    # The peer says this once it was told that the answer is read.
    await answer("goodbye")
    assert await client.outbox() == []
    assert await client.recovery() is None
    await client.close()
    print("done")


asyncio.run(asyncio.wait_for(main(), float(os.environ["SECONDS"])))

# Ends at once: the library's threads may be about to call back, and an interpreter that takes itself apart ends a thread
# that calls it then, in the middle of the library's code.
sys.stdout.flush()
os._exit(0)
