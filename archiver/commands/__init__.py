"""What each command does, whoever asks for it: settings and a request in, a report out, nothing printed."""
