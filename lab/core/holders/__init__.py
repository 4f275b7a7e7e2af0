"""What keeps connection tracking attached: the rules, objects and module options that hold its hooks.

From the recorded texts of one machine to a tuple of `Holder`s, in the order in which they can be removed. Since 4.14
the kernel registers the hooks of a family while something in the network namespace needs them (4d3a57f23dec
"netfilter: conntrack: do not enable connection tracking unless needed"). What needs them says so when it is created
and no longer when it is destroyed: whether packets ever reach it plays no part. So a rule in a chain that nothing
jumps to holds the hooks as well as any other, and an empty nat table does not.
"""
