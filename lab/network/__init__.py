"""Keys, addresses and the server's authentication on a LAN."""
