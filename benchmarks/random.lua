-- wrk script: POST /transform with random queries, uniform in length and letters.
local letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

function init()
  math.randomseed(os.time())
end

function request()
  local query = {}
  for i = 1, math.random(1, 5) do
    local at = math.random(1, 52)
    query[i] = letters:sub(at, at)
  end
  local body = '{"query":"' .. table.concat(query) .. '"}'
  return wrk.format("POST", "/transform", { ["Content-Type"] = "application/json" }, body)
end
