"""The chat as an application: `plait run chat.tac`; of Twisted's, `twistd -ny chat.tac`. It reads the environment."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from chat import ChatService

from plait.classic.application import service

application = service.Application("chat")
chat = ChatService(
    os.environ.get("CHAT_HOST", "127.0.0.1"),
    int(os.environ.get("CHAT_PORT", "6022")),
    float(os.environ.get("CHAT_ANNOUNCE", "60")),
    bot=os.environ.get("CHAT_BOT", "yes") == "yes",
)
chat.setName("chat")
chat.setServiceParent(application)
