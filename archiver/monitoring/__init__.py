"""How an archive that nobody watches makes itself heard: reports kept, a heartbeat, notifications."""
