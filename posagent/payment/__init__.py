"""For payment applications: tell the update agent that a payment is under way, without ever waiting for it.

    line = Holds("/run/posagent/api.sock", "acme-pay")
    with line.hold("transaction") as held:
        if held.granted:
            take_the_payment()

Call `tick` from the main loop, at least every `lease_s / 3`: it renews the lease, connects again and reads the news.
docs/payment.md has the protocol, and the same in C and Java.
"""

from posagent.payment.line import Held, Holds

__all__ = ["Held", "Holds"]
