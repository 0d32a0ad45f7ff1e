"""Tests of the whole: real processes, real sockets, the clients that applications use."""
