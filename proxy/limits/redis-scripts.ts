/**
 * The books of `ledger.ts`, kept in Redis by scripts, which run one at a time and take their time
 * from the server. Times are in microseconds since the epoch: as doubles they are exact.
 */

/**
 * KEYS: the org's turns. ARGV: member, limit per second, leased, spent, kept, least, most, lease in
 * µs, burst in µs. Returns: 1 when the last lease still ran, granted, wait in ms, other members.
 */
export const TURNS = `
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local member, rate = ARGV[1], tonumber(ARGV[2])
local leased, spent, kept = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local least, most = tonumber(ARGV[6]), tonumber(ARGV[7])
local leaseUs, burstUs = tonumber(ARGV[8]), tonumber(ARGV[9])
local emission = 1000000 / rate
local tat, rateBefore, leases = 0, rate, {}
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  if all[i] == 'tat' then tat = tonumber(all[i + 1])
  elseif all[i] == 'rate' then rateBefore = tonumber(all[i + 1])
  else leases[all[i]] = all[i + 1] end
end
if rateBefore ~= rate then tat = now + math.max(0, tat - now) * rateBefore / rate end
local reserved, others, mine = 0, 0, 0
for name, value in pairs(leases) do
  local space = string.find(value, ' ')
  local turns = tonumber(string.sub(value, 1, space - 1))
  local expires = tonumber(string.sub(value, space + 1))
  if expires <= now then
    redis.call('HDEL', KEYS[1], name)
    if turns > 0 then tat = math.max(tat, expires) + turns * emission end
  elseif name == member then mine = 1
  else reserved = reserved + turns; others = others + 1 end
end
local charge = spent
if mine == 0 then charge = math.max(0, spent - leased); kept = 0 end
if charge > 0 then tat = math.max(tat, now) + charge * emission end
local free = math.max(burstUs / emission, least) - math.max(0, tat - now) / emission - reserved - kept
local granted, waitMs = 0, 0
if most > 0 then
  if free + 0.000001 >= least then
    granted = math.min(most, math.max(least, math.floor(free + 0.000001)))
  end
  if granted == 0 then waitMs = math.max(1, (least - free) * emission / 1000) end
end
if kept + granted > 0 or least > 0 then
  redis.call('HSET', KEYS[1], member, string.format('%.9f %.0f', kept + granted, now + leaseUs))
else
  redis.call('HDEL', KEYS[1], member)
end
redis.call('HSET', KEYS[1], 'tat', string.format('%.0f', math.ceil(tat)), 'rate', ARGV[2])
redis.call('PEXPIRE', KEYS[1], math.ceil(math.max(tat - now, leaseUs) / 1000) + 1000)
return {mine, string.format('%.9f', granted), string.format('%.3f', waitMs), others}
`;

/**
 * KEYS: the org's places by member, when each member's lease runs out. ARGV: member, held, wanted,
 * limit, 1 when places may be taken away, for how many ms the record is kept. Returns the places
 * granted, or 'lapsed' when the member's own lease has run out, so that others may have been given
 * its places.
 */
export const PLACES = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local member, held = ARGV[1], tonumber(ARGV[2])
local wanted, limit = tonumber(ARGV[3]), tonumber(ARGV[4])
local lease = redis.call('ZSCORE', KEYS[2], member)
if not lease or tonumber(lease) <= now then return 'lapsed' end
local room = limit - held
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  if all[i] ~= member then
    local runs = redis.call('ZSCORE', KEYS[2], all[i])
    if runs and tonumber(runs) > now then room = room - tonumber(all[i + 1])
    else redis.call('HDEL', KEYS[1], all[i]) end
  end
end
local granted = 0
if room >= 0 then granted = math.min(wanted, room)
elseif ARGV[5] == '1' then granted = math.max(room, -held) end
if held + granted > 0 then
  redis.call('HSET', KEYS[1], member, held + granted)
  redis.call('PEXPIRE', KEYS[1], ARGV[6])
else
  redis.call('HDEL', KEYS[1], member)
end
return granted
`;

/**
 * KEYS: when each member's lease runs out. ARGV: member, lease in ms. Renews it, and returns 1 when
 * it had run out, and how many members there are.
 */
export const HEARTBEAT = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local lease = redis.call('ZSCORE', KEYS[1], ARGV[1])
local lapsed = 1
if lease and tonumber(lease) > now then lapsed = 0 end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2] * 2)
return {lapsed, redis.call('ZCARD', KEYS[1])}
`;
