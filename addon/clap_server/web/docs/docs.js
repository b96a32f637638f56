// Shows the API's description with Swagger UI, all of it from this server.

const notice = document.getElementById("notice");
const response = await fetch(new URL("api/openapi.json", document.baseURI), { credentials: "same-origin" });
if (response.ok) {
  const description = await response.json();
  // The Swagger UI that is bundled knows 3.0 and shows what we use of 3.1 all the same.
  description.openapi = "3.0.3";
  description.servers = [{ url: new URL(".", document.baseURI).href.replace(/\/$/, "") }];
  notice.remove();
  window.SwaggerUIBundle({ spec: description, dom_id: "#api", deepLinking: true, validatorUrl: null });
} else {
  const link = document.createElement("a");
  link.href = "./";
  link.textContent = "Sign in on the page";
  notice.replaceChildren(link, ", then come back.");
}
