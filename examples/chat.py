"""Sends one message to an agent and prints the answer as it comes. Exit status 0: it came whole."""

import argparse, asyncio, json, sys, uuid

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, WebSocketException


async def ask(socket, type, **fields):
    """Sends a command and waits for its reply."""
    # Sent again under the same id, should the reply be lost, a command is not done again.
    message_id = str(uuid.uuid4())
    await socket.send(json.dumps({"type": type, "message_id": message_id, **fields}))
    while (reply := json.loads(await socket.recv())).get("reply_to") != message_id:
        pass  # Something else: connection_established, a heartbeat, an event of before.
    if "error" in reply:
        sys.exit(f"{reply['error']['code']}: {reply['error']['message']}")
    return reply["data"]


async def chat(url, agent, session, message):
    client = f"?client_id={uuid.uuid4()}"  # Says that the two sockets are one client's.
    # A snapshot of a long conversation is more than the library lets in by itself.
    async with (
        connect(f"{url}/ws/frontend-api{client}", max_size=None) as events,
        connect(f"{url}/ws/backend-api{client}") as commands,
    ):
        # Watch first, then speak: so nothing is missed.
        if session:
            await ask(events, "subscribe", data={"topics": [f"session:{session}"]})
            while json.loads(await events.recv())["type"] != "session_snapshot":
                pass
        else:
            created = await ask(commands, "session_management", agent_id=agent, data={"action": "create"})
            session, topic = created["session_id"], f"session:{created['session_id']}"
            print(f"session {session}", file=sys.stderr)
            beginning = {topic: {"epoch": created["epoch"], "seq": 0}}
            await ask(events, "subscribe", data={"topics": [topic], "positions": beginning})
        said = await ask(commands, "chat_message", session_id=session, data={"content": message})
        while True:
            event = json.loads(await events.recv())
            if event.get("run_id") != said["run_id"]:
                continue  # Of the socket itself, or of another run in this session.
            if event["type"] == "message.delta":
                print(event["data"]["text"], end="", flush=True)
            elif event["type"] == "agent_response":
                print()
            elif event["type"] == "error":
                print(f"{event['error']['code']}: {event['error']['message']}", file=sys.stderr)
            elif event["type"] == "run_finished":
                return event["data"]["outcome"] == "completed"


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("message", nargs="?", help="what to say; standard input if left out")
parser.add_argument("--url", default="ws://127.0.0.1:8080", help="the server (%(default)s)")
parser.add_argument("--agent", default="helper", help="whom to talk to (%(default)s)")
parser.add_argument("--session", help="go on with this session, as helper_417, instead of a new one")
options = parser.parse_args()
try:
    completed = asyncio.run(chat(options.url, options.agent, options.session, options.message or sys.stdin.read()))
except ConnectionClosed as closed:
    # Below 4400 a client that stays would connect again and resume: docs/protocol.md, "Resuming".
    sys.exit(f"connection closed: {closed.rcvd or 'without a word'}")
except (OSError, WebSocketException) as error:
    sys.exit(f"cannot connect to {options.url}: {error}")
sys.exit(0 if completed else 1)
