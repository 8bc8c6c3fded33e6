"""What runs in a pod or on a node: argv out, typed figures in. Pure: nothing here runs anything."""
