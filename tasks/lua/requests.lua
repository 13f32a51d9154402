-- Looks at the stream of requests without reading them: an entry may have 20 MiB.
--
-- KEYS  1 muster:requests
--
-- Returns {length, id of the oldest entry}, the id '' if there is none.
local oldest = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
return { redis.call('XLEN', KEYS[1]), oldest and oldest[1] or '' }
