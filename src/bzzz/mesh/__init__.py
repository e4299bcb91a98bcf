"""How nodes find each other and talk: engines behind the ``Transport`` port.

``memory`` joins transports of one process, for tests and simulations. ``libp2p_transport`` is the real
engine; importing this package or ``memory`` does not import libp2p. What the messages mean is none of this
package's business.
"""
