-- wrk script: POST /transform/batch with 1,024 random queries, uniform in length and letters.
local letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

function init()
  math.randomseed(os.time())
  local queries = {}
  for i = 1, 1024 do
    local query = {}
    for j = 1, math.random(1, 5) do
      local at = math.random(1, 52)
      query[j] = letters:sub(at, at)
    end
    queries[i] = '"' .. table.concat(query) .. '"'
  end
  local body = '{"queries":[' .. table.concat(queries, ",") .. "]}"
  wrk.method, wrk.path, wrk.body = "POST", "/transform/batch", body
  wrk.headers["Content-Type"] = "application/json"
  prepared = wrk.format()
end

function request()
  return prepared
end
