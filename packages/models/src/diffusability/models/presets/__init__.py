"""Published autoencoders by name. Each module holds one configuration and says where it is published."""
