"""The Centrifuge library for Go, which Centrifugo is made of, as Debian packages it.

Version 0.15 speaks the first version of Centrifugal's client protocol: a command names its
method by a number (0 connect, 1 subscribe), and its parameters stand under ``params``.
"""

from __future__ import annotations

from . import Subscribe
from ._debian import DebianPackages
from ._go import GoProgram
from ._peer import ServedPeer

__all__ = ["PEER"]

PEER = ServedPeer(
    name="centrifuge-go",
    program=GoProgram(
        name="centrifuge_go",
        # The last four are what the library is built from and its package does not ask for.
        sources=DebianPackages(
            (
                "golang-go",
                "golang-github-centrifugal-centrifuge-dev",
                "golang-github-centrifugal-protocol-dev",
                "golang-github-fzambia-eagle-dev",
                "golang-github-igm-sockjs-go-dev",
                "golang-github-mna-redisc-dev",
            )
        ),
        shown=("golang-go", "golang-github-centrifugal-centrifuge-dev"),
    ),
    ws=Subscribe(
        path="/connection/websocket",
        hello=(
            '{"id":1,"method":0,"params":{}}',
            '{"id":2,"method":1,"params":{"channel":"bench"}}',
        ),
        ready='"id":2',
    ),
    # One core is what each server gets; more threads of Go's would only contend for it.
    environment={"GOMAXPROCS": "1"},
)
