"""What an agent keeps for as long as one incarnation of it lives, put together."""

from __future__ import annotations

from fabric.client.emitter import Emitter
from fabric.client.enquiry import Enquiries
from fabric.client.grant import Background, Grants
from fabric.client.holding import Holdings
from fabric.client.integration import Integrations
from fabric.client.mailbox import Mailbox
from fabric.client.pause import Checkpoints, Pauses
from fabric.client.request import Requests
from fabric.client.session import Session
from fabric.client.told import Told
from fabric.client.voice import Voice
from fabric.client.wait import Waits
from fabric.store.keys import SessionKeys
from fabric.store.port import ClientStore


class Life:
    """One incarnation: what it waits for, holds, leads and was told; and what brings it the news.

    The mailbox shows every message to each of them in turn, pauses first: who then looks at an
    answer knows whether one was in force before it.
    """

    def __init__(
        self,
        store: ClientStore,
        keys: SessionKeys,
        emitter: Emitter,
        voice: Voice,
        background: Background,
        *,
        dead: str,
        name: str,
        block_ms: int,
        is_successor: bool,
    ) -> None:
        session = Session(store, keys)
        requests = Requests(store, emitter, voice, session.name, name, dead)
        holdings = Holdings(is_successor=is_successor)
        voice.said = holdings.said
        pauses = Pauses(store, session, name)
        self.told = Told(name)
        self.grants = Grants(store, session, voice, requests, pauses, holdings, background, name)
        self.waits = Waits(session, self.grants, name)
        self.enquiries = Enquiries(self.grants, name)
        self.integrations = Integrations(session, self.grants, name)
        self.checkpoints = Checkpoints(store, session, requests, pauses, name)
        listeners = (pauses, self.grants, self.waits, self.integrations, self.told)
        self.mailbox = Mailbox(store, keys, name, block_ms, requests, listeners)
