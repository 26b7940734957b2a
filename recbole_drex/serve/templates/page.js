(() => {
  const root = document.documentElement;
  const about = JSON.parse(document.getElementById("about").textContent);
  const at = (id) => document.getElementById(id);
  // Every text goes into the page as text: what a review says is shown and never interpreted.
  const element = (name, text, className) => {
    const node = document.createElement(name);
    if (text !== undefined) node.textContent = text;
    if (className) node.className = className;
    return node;
  };
  const fixed = (number) => number.toFixed(2);
  const signed = (number) => (number < 0 ? "\u2212" : "+") + fixed(Math.abs(number));

  // Theme: the system's until the reader chooses.
  const theme = at("theme"), dark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ?? (dark.matches ? "dark" : "light")) === "dark";
  const nameTheme = () => { theme.textContent = isDark() ? "Light theme" : "Dark theme"; };
  theme.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; nameTheme(); });
  dark.addEventListener("change", nameTheme);
  theme.hidden = false;
  nameTheme();

  // Asking the server: a reason is shown where an answer is not to be had.
  const problem = at("problem");
  const complain = (reason) => { problem.textContent = reason ?? ""; problem.hidden = !reason; };
  const ask = async (path, body) => {
    const options = body && { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
    let response, content;
    try {
      response = await fetch(path, options);
      content = await response.json();
    } catch {
      throw new Error("The server does not answer.");
    }
    if (!response.ok) throw new Error(content.detail);
    return content;
  };
  const query = (values) => new URLSearchParams(values).toString();

  // Searching: the answer to an older question must not replace that to a newer one.
  const searching = (input, path, show) => {
    let last = 0, timer;
    const search = async () => {
      const mine = ++last;
      try {
        const found = await ask(`${path}?${query({ query: input.value, limit: 12 })}`);
        if (mine === last) show(found);
      } catch (error) {
        if (mine === last) complain(error.message);
      }
    };
    input.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(search, 150); });
    // Enter takes the first match.
    input.addEventListener("keydown", (event) => {
      if (event.key !== "Enter") return;
      event.preventDefault();
      input.closest("section").querySelector("ul button")?.click();
    });
    search();
  };
  const counted = (total, shown, names) =>
    total === 0 ? "Nothing matches." : total > shown ? `${shown} of ${total} matching ${names}` : `${total} matching ${names}`;
  const match = (label, more, pick) => {
    const item = element("li"), button = element("button", label);
    button.type = "button";
    button.append(element("span", more));
    button.addEventListener("click", pick);
    item.append(button);
    return item;
  };

  // Reasons
  const words = (profile, shared) => {
    const list = element("ul", undefined, "words");
    for (const { word, score, side, reviews, mean_rating: mean } of profile) {
      const item = element("li", word, [shared.has(word) && "shared", side !== "neutral" && side].filter(Boolean).join(" "));
      item.append(element("span", fixed(score)));
      const facts = [side, reviews && `in ${reviews} reviews`, mean !== null && `their mean rating is ${fixed(mean)}`];
      item.title = facts.filter(Boolean).join(", ");
      list.append(item);
    }
    return list;
  };

  // Places count characters as Python does, so a text is taken apart by code points.
  const quote = ({ text, marks }, source) => {
    const node = element("blockquote"), letters = Array.from(text);
    const most = Math.max(...marks.map((one) => one.attention ?? 0));
    let end = 0;
    for (const { start, end: stop, attention, delta, sentiment = null } of marks) {
      if (start < end) continue;
      node.append(letters.slice(end, start).join(""));
      const value = delta ?? sentiment;
      const mark = element("mark", letters.slice(start, stop).join(""), !value ? "" : value > 0 ? "up" : "down");
      if (attention !== null && most > 0) mark.style.setProperty("--attention", attention / most);
      if (delta !== null) mark.title = `${signed(delta)} to the prediction`;
      else if (sentiment !== null) mark.title = `read as ${sentiment < 0 ? "criticism" : "praise"}`;
      node.append(mark);
      end = stop;
    }
    node.append(letters.slice(end).join(""));
    if (source) node.append(element("cite", source));
    return node;
  };

  const evidence = (entries, value) => {
    const list = element("ol", undefined, "evidence");
    for (const entry of entries) {
      const { side, review } = entry, item = element("li"), text = element("div");
      item.append(value(entry), text);
      const who = side === "user" ? `this user, about ${review.title || review.item}` : `${review.user}, about this item`;
      const rated = review.rating === null ? "" : `, rated ${review.rating}`;
      if (review.quote) text.append(quote(review.quote, who + rated));
      else text.append(element("span", who + rated, "soft small"));
      list.append(item);
    }
    return list;
  };
  const sourceOf = (review, own) => {
    const who = own ? `this user, about ${review.title || review.item}` : `${review.user}, about this item`;
    return who + (review.rating === null ? "" : `, rated ${review.rating}`);
  };
  const moved = ({ delta }) => element("span", signed(delta), `delta ${delta < 0 ? "down" : "up"}`);
  const useful = ({ weight }) => element("span", weight === null ? "" : fixed(weight), "delta");

  const recommendation = (row) => {
    const { item, title, predicted, sentence, written, profile, keywords, neighbours } = row;
    const node = element("li"), head = element("div", undefined, "item-head"), name = element("div");
    name.append(element("h3", title || item));
    if (title) name.append(element("span", item, "soft small"));
    head.append(name);
    if (predicted !== null) {
      const rating = element("div", fixed(predicted), "rating");
      rating.append(element("small", "predicted rating"));
      head.append(rating);
    }
    node.append(head);
    if (sentence) node.append(element("p", sentence, "sentence"));
    if (written) node.append(element("p", written));
    if (neighbours) {
      const { neighbours: asked, rated, relevant, threshold } = neighbours;
      node.append(element("p", `${rated} of the ${asked} nearest users rated it, ${relevant} of them ${threshold} or more`));
    }
    if (row.parts?.length) {
      node.append(partsOf(row, element, (review, own) => quote(review.quote ?? { text: "", marks: [] }, sourceOf(review, own))));
      return node;
    }
    const shared = new Set((keywords ?? []).map((keyword) => keyword.word));
    if (profile?.length) {
      node.append(element("p", "Its reviews write about", "soft small"), words(profile, shared));
      if (!keywords.length) node.append(element("p", "No word stands in both profiles.", "soft small"));
    }
    if (keywords?.length) {
      const list = element("dl", undefined, "shared-words");
      for (const keyword of keywords) {
        const group = element("div"), term = element("dt", keyword.word), quotes = element("dd");
        term.append(element("span", `user ${fixed(keyword.user_score)}, item ${fixed(keyword.item_score)}`));
        if (keyword.user_quote) quotes.append(quote(keyword.user_quote, "this user, in another review"));
        if (keyword.item_quote) quotes.append(quote(keyword.item_quote, "another user, about this item"));
        group.append(term, quotes);
        list.append(group);
      }
      node.append(list);
    }
    if (row.evidence?.length) {
      node.append(element("p", "What moved the prediction", "soft small"), evidence(row.evidence, moved));
    }
    if (row.words?.length) {
      const list = element("ul", undefined, "words");
      for (const { word, delta, reviews } of row.words) {
        const one = element("li", word);
        one.append(element("span", signed(delta), delta < 0 ? "down" : "up"));
        one.title = `in ${reviews} of these reviews`;
        list.append(one);
      }
      node.append(element("p", "Words that moved it", "soft small"), list);
    }
    if (row.reviews?.length) node.append(element("p", "Useful reviews", "soft small"), evidence(row.reviews, useful));
    return node;
  };

  const result = at("result"), content = at("result-content"), heading = at("result-heading");
  const show = (title, { mean_rating: mean, profile, recommendations }, facts) => {
    heading.textContent = title;
    content.replaceChildren();
    if (facts) content.append(element("p", facts, "soft"));
    const shared = recommendations.flatMap((row) => (row.keywords ?? []).map((keyword) => keyword.word));
    if (profile?.length) content.append(element("p", "Often writes about", "soft small"), words(profile, new Set(shared)));
    if (!recommendations.length) content.append(element("p", "No item is left to recommend."));
    const list = element("ol", undefined, "items");
    list.append(...recommendations.map(recommendation));
    content.append(list);
    result.hidden = false;
  };
  let asked = 0;
  const answering = async (work) => {
    const mine = ++asked;
    complain();
    result.setAttribute("aria-busy", "true");
    try {
      const display = await work();
      if (mine === asked) { display(); heading.focus(); }
    } catch (error) {
      if (mine === asked) { result.hidden = true; complain(error.message); }
    }
    if (mine === asked) result.setAttribute("aria-busy", "false");
  };
  const TOP = 5;

  // A user of the data
  const pickUser = (user) => answering(async () => {
    const [profile, found] = await Promise.all([
      ask(`profile?${query({ user })}`), ask(`recommend?${query({ user, top: TOP, explain: about.explains })}`),
    ]);
    const mean = profile.mean_rating === null ? "" : `, on average ${fixed(profile.mean_rating)}`;
    return () => show(`For ${user}`, { ...found, profile: profile.keywords }, `${profile.ratings} ratings${mean}`);
  });
  searching(at("user-query"), "users", ({ users, total }) => {
    at("user-count").textContent = counted(total, users.length, "users");
    at("user-matches").replaceChildren(...users.map(({ user, ratings }) => match(user, `${ratings} ratings`, () => pickUser(user))));
  });

  // Somebody new
  const chosen = new Map(), list = at("posted-items");
  const ready = () => { at("recommend").disabled = !chosen.size || !about.new_users; };
  const field = (label, input) => {
    const node = element("label", label);
    node.append(input);
    return node;
  };
  const pickItem = ({ item, title }) => {
    if (chosen.has(item)) { chosen.get(item).rating.focus(); return; }
    if (chosen.size >= about.max_interactions) { complain(`At most ${about.max_interactions} items are taken.`); return; }
    const [lowest, highest] = about.rating_range;
    const node = element("li"), head = element("div", undefined, "item-head"), remove = element("button", "Remove");
    const rating = element("input"), review = element("textarea"), fields = element("div", undefined, "posted");
    Object.assign(rating, { type: "number", min: lowest, max: highest, step: "any" });
    review.maxLength = about.max_review;
    remove.type = "button";
    remove.setAttribute("aria-label", `Remove ${title || item}`);
    remove.addEventListener("click", () => { chosen.delete(item); node.remove(); ready(); at("item-query").focus(); });
    head.append(element("h3", title || item), remove);
    fields.append(field(`Rating, ${lowest} to ${highest}`, rating), field("Review", review));
    node.append(head, fields);
    list.append(node);
    chosen.set(item, { rating, review });
    ready();
    rating.focus();
  };
  searching(at("item-query"), "items/search", ({ items, total }) => {
    at("item-count").textContent = counted(total, items.length, "items");
    at("item-matches").replaceChildren(...items.map((item) =>
      match(item.title || item.item, item.title ? item.item : `${item.ratings} ratings`, () => pickItem(item))));
  });
  at("posted").addEventListener("submit", (event) => {
    event.preventDefault();
    const interactions = [...chosen].map(([item, { rating, review }]) =>
      ({ item, rating: rating.value === "" ? null : Number(rating.value), review: review.value }));
    answering(async () => {
      const found = await ask("recommend", { interactions, top: TOP, explain: about.explains_new_users });
      return () => show("For you", found);
    });
  });
  at("new-refused").hidden = about.new_users;

  const sides = { "choose-user": "known", "choose-new": "new" };
  const choose = (button) => {
    for (const [id, section] of Object.entries(sides)) {
      at(id).setAttribute("aria-pressed", String(id === button));
      at(section).hidden = id !== button;
    }
    result.hidden = true;
    asked += 1;
    complain();
  };
  for (const id of Object.keys(sides)) at(id).addEventListener("click", () => choose(id));
  at("sides").hidden = false;
  choose("choose-user");
})();
