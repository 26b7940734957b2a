// The server's page. Recommendations are drawn as in the report.
const about = JSON.parse(document.getElementById("about").textContent);
const at = (id) => document.getElementById(id);
const TOP = 5, MATCHES = 8;

// Marks have positions in characters, but JavaScript strings count some characters, such as emoji, twice.
const piecesOf = ({ text, marks }) => {
  const characters = Array.from(text), pieces = [];
  let end = 0;
  for (const { start, end: stop, attention = null, delta = null, sentiment = null } of marks) {
    if (start < end) continue;
    pieces.push({ text: characters.slice(end, start).join("") });
    pieces.push({ text: characters.slice(start, stop).join(""), marked: true, attention, delta, sentiment });
    end = stop;
  }
  pieces.push({ text: characters.slice(end).join("") });
  return pieces;
};
const withQuotes = (key, value) => (value?.marks ? piecesOf(value) : value);
// Fields that a model without explanations omits.
const NO_REASONS = { sentence: "", written: "", neighbours: null, profile: [], keywords: [], evidence: [], words: [], reviews: [], parts: [] };

// Requests to the server. Its own error messages are meant for programs.
const MESSAGES = {
  404: "This user or item is not in the data.",
  413: "This review is too long.",
  422: `The server cannot use this input. A rating must be between ${about.rating_range.join(" and ")}.`,
  501: "This model does not offer this.",
  503: "The server is busy. Please try again in a moment.",
};
const problem = at("problem");
const complain = (message) => { problem.textContent = message ?? ""; problem.hidden = !message; };
const ask = async (path, body) => {
  const options = body && { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
  let response, text;
  try {
    response = await fetch(path, options);
    text = await response.text();
  } catch {
    throw new Error("The server does not answer. Please check that it is still running.");
  }
  if (!response.ok) throw new Error(MESSAGES[response.status] ?? "The server could not answer. See its log.");
  return JSON.parse(text, withQuotes);
};
const query = (values) => new URLSearchParams(values).toString();
const delayed = (action, milliseconds) => {
  let timer;
  return () => { clearTimeout(timer); timer = setTimeout(action, milliseconds); };
};

// Searching: the response to an older request must not replace that to a newer one.
const searching = (input, path, show) => {
  let last = 0;
  const search = async () => {
    const mine = ++last;
    try {
      const matches = await ask(`${path}?${query({ query: input.value, limit: MATCHES })}`);
      if (mine === last) show(matches);
    } catch (error) {
      if (mine === last) complain(error.message);
    }
  };
  input.addEventListener("input", delayed(search, 150));
  // Enter selects the first match.
  input.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    input.closest("section").querySelector(".matches button")?.click();
  });
  search();
};
const countText = (total, shown, noun, searched) => {
  if (!total) return `No ${noun} matches.`;
  if (!searched) return `The ${noun}s with the most ratings`;
  return total > shown ? `The first ${shown} of ${total} matches` : `${total} ${total === 1 ? "match" : "matches"}`;
};

// Recommendations, and their changes after a change of the input.
const result = at("result"), content = at("result-content"), heading = at("result-heading"), hint = at("hint");
const advise = (text) => {
  hint.textContent = text ?? "";
  hint.hidden = !text;
  if (text) content.replaceChildren();
};
const badge = (text, className) => element("span", text, `badge ${className}`);
const markChanges = (cards, recommendations, before) => {
  recommendations.forEach(({ item, predicted }, index) => {
    const name = cards[index].querySelector(".item-head > div"), old = before.findIndex((one) => one.item === item);
    if (old < 0) name.append(badge("new in the list", "moved"));
    else if (old > index) name.append(badge(`▲ was ${old + 1}`, "moved"));
    else if (old < index) name.append(badge(`▼ was ${old + 1}`, "moved"));
    const difference = old < 0 || predicted === null ? 0 : predicted - before[old].predicted;
    if (Math.abs(difference) >= 0.005) {
      const change = element("small", " by the last change");
      change.prepend(element("b", signed(difference, 1), difference < 0 ? "down" : "up"));
      cards[index].querySelector(".rating").append(change);
    }
  });
};
const show = (title, facts, answer, before) => {
  const recommendations = answer.recommendations.map((row) => ({ ...NO_REASONS, ...row }));
  const entry = { user: answer.user ?? title, mean_rating: answer.mean_rating ?? null, profile: answer.profile ?? [], recommendations };
  const shared = new Set(recommendations.flatMap((row) => row.keywords.map((keyword) => keyword.lemma)));
  const context = { entries: [entry], shared, sharedItems: new Set(), brief: false, folded: true };
  const open = new Set([...content.querySelectorAll(".items > li:has(> details[open])")].map((card) => card.dataset.item));
  const list = recommendationsOf(entry, context);
  if (before) markChanges([...list.children], recommendations, before);
  for (const card of list.children) {
    const details = card.querySelector(":scope > details");
    if (details && before) details.open = open.has(card.dataset.item);
  }
  heading.textContent = title;
  content.replaceChildren(element("p", facts, "soft small"), profileOf(entry, context), element("h3", "Recommended items", "unseen"), list);
  advise();
  at("status").textContent = `${recommendations.length} recommendations ${title[0].toLowerCase()}${title.slice(1)}`;
  return recommendations;
};
// Only the response to the newest request is shown.
let asked = 0;
const answering = async (work) => {
  const mine = ++asked;
  complain();
  result.setAttribute("aria-busy", "true");
  try {
    const display = await work();
    if (mine === asked) display();
  } catch (error) {
    if (mine === asked) { content.replaceChildren(); complain(error.message); }
  }
  if (mine === asked) result.setAttribute("aria-busy", "false");
};

// An existing user
let current;
const pickUser = (user, chosen) => {
  current = user;
  for (const button of document.querySelectorAll("#user-matches button")) {
    button.setAttribute("aria-pressed", String(button.dataset.user === user));
  }
  return answering(async () => {
    const [profile, recommended] = await Promise.all([
      ask(`profile?${query({ user })}`), ask(`recommend?${query({ user, top: TOP, explain: about.explains })}`),
    ]);
    const mean = profile.mean_rating === null ? "" : `, mean rating ${fixed(profile.mean_rating)}`;
    return () => {
      show(`For ${user}`, `${counted(profile.ratings, "rating")}${mean}`, { ...recommended, mean_rating: profile.mean_rating, profile: profile.keywords });
      if (chosen) heading.focus();
    };
  });
};
searching(at("user-query"), "users", ({ users, total }) => {
  at("user-count").textContent = countText(total, users.length, "user", at("user-query").value.trim());
  at("user-matches").replaceChildren(...users.map(({ user, ratings }) => {
    const button = element("button", user);
    button.type = "button";
    button.dataset.user = user;
    button.setAttribute("aria-pressed", String(user === current));
    button.append(element("span", counted(ratings, "rating")));
    button.addEventListener("click", () => pickUser(user, true));
    return holding("li", "", button);
  }));
  if (current === undefined && users.length) pickUser(users[0].user);
});

// A new user: stars if the scale has few steps, otherwise a number.
const [LOWEST, HIGHEST] = about.rating_range;
const LEVELS = Array.from({ length: Math.max(0, Math.floor(HIGHEST) - Math.ceil(LOWEST) + 1) }, (_, step) => Math.ceil(LOWEST) + step);
const starsOf = (name, title, changed) => {
  const box = holding("fieldset", "stars", element("legend", `Rating of ${title}`, "unseen"));
  for (const level of LEVELS) {
    const input = element("input"), star = element("span", "★"), label = element("label");
    Object.assign(input, { type: "radio", name, value: level, ariaLabel: `${level} of ${HIGHEST}` });
    star.ariaHidden = "true";
    label.title = String(level);
    label.append(input, star);
    input.addEventListener("change", () => changed(level));
    box.append(label);
  }
  return box;
};
const ratingInput = (name, title, changed) => {
  if (LEVELS.length >= 2 && LEVELS.length <= 10) return starsOf(name, title, changed);
  const input = element("input");
  Object.assign(input, { type: "number", min: LOWEST, max: HIGHEST, step: "any", ariaLabel: `Rating of ${title}`, placeholder: `${LOWEST} to ${HIGHEST}` });
  const wrong = `A rating must be between ${LOWEST} and ${HIGHEST}.`;
  input.addEventListener("input", () => {
    complain(input.checkValidity() ? undefined : wrong);
    if (input.checkValidity()) changed(input.value === "" ? null : Number(input.value));
  });
  return input;
};

const START = "Rate an item, or choose one to review it. Recommendations appear here.";
const chosen = new Map();
let last = null, running = false, again = false;
// One request at a time: changes in the meantime are requested afterwards.
const recommend = async () => {
  if (running) { again = true; return; }
  const interactions = [...chosen].map(([item, given]) => ({ item, ...given })).filter((one) => one.rating !== null || one.review.trim());
  if (!interactions.length) {
    asked += 1; // the pending response is no longer needed
    last = null;
    heading.textContent = "For you";
    result.setAttribute("aria-busy", "false");
    complain();
    advise(START);
    return;
  }
  running = true;
  await answering(async () => {
    const recommended = await ask("recommend", { interactions, top: TOP, explain: about.explains_new_users });
    return () => { last = show("For you", `From ${counted(interactions.length, "item")} of yours`, recommended, last); };
  });
  running = false;
  if (again) { again = false; recommend(); }
};
const recommendSoon = delayed(recommend, 400);

const addItem = ({ item, title }, rating) => {
  if (chosen.has(item)) { document.getElementById(`review-${item}`)?.focus(); return; }
  if (chosen.size >= about.max_interactions) { complain(`You can give at most ${about.max_interactions} items.`); return; }
  const name = title || item, given = { rating, review: "" }, node = element("li");
  const remove = element("button", "Remove"), review = element("textarea"), heading = element("h3", name);
  const stars = ratingInput(`mine-${item}`, name, (level) => { given.rating = level; recommend(); });
  if (rating !== null) stars.querySelector(`[value="${rating}"]`).checked = true;
  Object.assign(remove, { type: "button", ariaLabel: `Remove ${name}` });
  Object.assign(review, { id: `review-${item}`, maxLength: about.max_review, rows: 2, dir: "auto", ariaLabel: `Review of ${name}`, placeholder: "Write what you think of it" });
  remove.addEventListener("click", () => { chosen.delete(item); node.remove(); recommend(); at("item-query").focus(); });
  review.addEventListener("input", () => { given.review = review.value; recommendSoon(); });
  heading.title = name;
  node.append(holding("div", "item-head", heading, remove), stars, review);
  chosen.set(item, given);
  at("posted-items").prepend(node);
  review.focus();
  recommend();
};
if (about.new_users) {
  searching(at("item-query"), "items/search", ({ items, total }) => {
    at("item-count").textContent = countText(total, items.length, "item", at("item-query").value.trim());
    at("item-matches").replaceChildren(...items.map((item) => {
      const name = item.title || item.item, button = element("button", name);
      Object.assign(button, { type: "button", title: name });
      if (item.title) button.append(" ", element("span", item.item));
      const add = (rating) => { node.remove(); addItem(item, rating); };
      button.addEventListener("click", () => add(null));
      const node = holding("li", "", button);
      if (LEVELS.length >= 2 && LEVELS.length <= 10) node.append(starsOf(`match-${item.item}`, name, add));
      return node;
    }));
  });
}

const sides = { "choose-user": "known", "choose-new": "new" };
const choose = (button) => {
  for (const [id, section] of Object.entries(sides)) {
    at(id).setAttribute("aria-pressed", String(id === button));
    at(section).hidden = id !== button;
  }
  result.hidden = button === "choose-new" && !about.new_users;
  content.replaceChildren();
  advise();
  complain();
  if (button === "choose-new") { last = null; recommend(); } else if (current !== undefined) pickUser(current);
};
for (const id of Object.keys(sides)) at(id).addEventListener("click", () => choose(id));
at("panes").hidden = false;
