"""The agent's library: send signals, receive messages, wait; asynchronous or synchronous."""
