-- Gives a job back to its queue, whose worker has died: it is the next to be taken.
-- The keys are those of the job queue's library, and so is the way.
--
-- KEYS  1 the active jobs  2 their leases  3 the pending jobs  4 the job
-- ARGV  1 the job's id
--
-- Returns 1; 0 if the job is not active, and then nothing is written.
if redis.call('LREM', KEYS[1], 0, ARGV[1]) == 0 then
  return 0
end
redis.call('ZREM', KEYS[2], ARGV[1])
if redis.call('EXISTS', KEYS[4]) == 0 then
  return 0
end
redis.call('RPUSH', KEYS[3], ARGV[1])
redis.call('HSET', KEYS[4], 'state', 'pending')
return 1
