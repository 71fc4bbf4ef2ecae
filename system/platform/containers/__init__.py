"""A lab in containers: the images, how a node runs in one, and docker-compose.yml."""
