-- Says that a process is there, and perhaps that an account is to be left alone for a while. KEYS: the attendance, the
-- pauses. ARGV: the process, how long a word holds in ms; the account's key, for how long in ms.
-- Gives how many are there, the time in µs, and who is paused until when in ms.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function whole(number)
  return string.format('%.0f', number)
end
redis.call('ZADD', KEYS[1], whole(now), ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', whole(now - ARGV[2]))
redis.call('ZREMRANGEBYSCORE', KEYS[1], '(' .. whole(now + ARGV[2]), '+inf')
redis.call('PEXPIRE', KEYS[1], ARGV[2])
-- Nobody is paused for longer than an hour: what says so is from before the clock was set back.
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', whole(now))
redis.call('ZREMRANGEBYSCORE', KEYS[2], '(' .. whole(now + 3600000), '+inf')
if ARGV[3] then
  redis.call('ZADD', KEYS[2], 'GT', whole(now + ARGV[4]), ARGV[3])
  redis.call('PEXPIRE', KEYS[2], 3600000)
end
return {
  redis.call('ZCARD', KEYS[1]),
  whole(time[1] * 1000000 + time[2]),
  redis.call('ZRANGE', KEYS[2], 0, -1, 'WITHSCORES'),
}
