"""The same server with its engine on several processes or machines, as Ray Serve places them and keeps them alive."""
