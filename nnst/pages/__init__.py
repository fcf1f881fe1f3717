"""Pages for people: static files, inlined or served as they are, without a build step."""
