"""For agents: emit signals, read directives, wait with limits; asynchronous or synchronous."""
