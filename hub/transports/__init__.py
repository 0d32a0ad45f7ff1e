"""What carries a connection: one thin shell a transport."""
