-- Notes that the end of a task set was announced. A set that is gone stays gone.
--
-- KEYS  1 {AC131}:meta
--
-- Returns 1; -1 if there is no such set.
if redis.call('EXISTS', KEYS[1]) == 0 then
  return -1
end
redis.call('HSET', KEYS[1], 'announced', 1)
return 1
