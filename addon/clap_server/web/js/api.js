// Requests to the server. All addresses are relative, so that the page also works behind a prefix.

export class Problem extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

export const address = (path) => new URL(path, document.baseURI);

export async function request(method, path, body) {
  const options = { method, credentials: "same-origin", headers: {} };
  if (body instanceof FormData) options.body = body;
  else if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers["Content-Type"] = "application/json";
  }
  let response;
  try {
    response = await fetch(address(path), options);
  } catch {
    throw new Problem(0, "The server does not answer. Is it running?");
  }
  if (!response.ok) {
    const problem = await response.json().catch(() => ({}));
    throw new Problem(response.status, problem.detail || `The server answered ${response.status}.`);
  }
  return response.status === 204 ? null : response.json();
}
