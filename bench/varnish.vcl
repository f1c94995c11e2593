vcl 4.1;

# The peer of the cache: Debian's Varnish with what it does by default, objects in memory, one pool of threads.
backend default {
    .host = "127.0.0.1";
    .port = "9000";
}

# The bench's origin says nothing about freshness.
sub vcl_backend_response {
    set beresp.ttl = 1h;
}
