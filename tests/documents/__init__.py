"""What documents promise, read from their Markdown: blocks, commands, links; and a folder to follow a page in."""
